"""Files of weights: ours, Caffe's, PyTorch's, ONNX, those of 2012."""
