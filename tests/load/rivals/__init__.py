"""The same network behind other servers, as one writes them first: what our engine is worth, losses included.

    python -m tests.load.rivals --model MODEL_DIR [--rounds 3]      # or: make rivals

The same ONNX file, the same JPEG bytes in the same form, the same decoding and resizing (app.core.preprocess), the same number
of threads for the model, the same vectors in the same JSON, sent by the same generator, all in turn within one command.
"""
