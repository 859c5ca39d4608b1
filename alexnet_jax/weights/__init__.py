"""Files of weights: this project's own, and those of Caffe, PyTorch, ONNX and cuda-convnet.

A module here may import `model`, `data` and `runtime`.
"""
