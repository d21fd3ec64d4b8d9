"""The chat contract and supervised fine-tuning."""
