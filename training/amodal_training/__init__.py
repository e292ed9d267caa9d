"""Self-supervised training and evaluation of amodal video segmentation."""
