"""Layers and small networks that two or more papers use."""
from facelab.blocks.features import FeatureNetwork, feature_matching, vgg19_features
from facelab.blocks.layers import AppearanceEncoder, Decoder, StructureEncoder, convolution, lsuv_
from facelab.blocks.memory import FocalMemory, effective_clusters
from facelab.blocks.structured import StructuredConfig, StructuredVAE, near_lines
from facelab.blocks.weights import load_weights, save_weights, shipped

__all__ = [
    "AppearanceEncoder", "Decoder", "FeatureNetwork", "FocalMemory", "StructureEncoder", "StructuredConfig", "StructuredVAE", "convolution",
    "effective_clusters", "feature_matching", "load_weights", "lsuv_", "near_lines", "save_weights", "shipped", "vgg19_features",
]  # fmt: skip
