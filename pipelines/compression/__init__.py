"""Smaller models: distillation and quantization."""
