"""What a run will take, predicted before it and scored after; and how large a model and how long a run pay."""
