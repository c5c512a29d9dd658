"""Trained models as ONNX files, with a model card."""
