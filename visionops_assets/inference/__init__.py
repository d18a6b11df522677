"""The ONNX file that ships: held to its recorded digest, opened, asked; the tables of what it answers."""

__all__ = ["detection", "detections", "inference_task", "predictions", "shipped_model"]
