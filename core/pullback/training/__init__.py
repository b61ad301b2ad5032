"""Training: one loop for all models (`loop.py`), and the pictures that they learn from (`folder.py`). Needs the extra `train`."""
