"""Command line and services over amodal_model."""
