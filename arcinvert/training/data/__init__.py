"""Training images: folders, RecordIO, shards, clean lists, augmentation."""

from arcinvert.training.data.clean_list import read_clean_list
from arcinvert.training.data.containers import convert_images, list_images
from arcinvert.training.data.faces import FaceDataset, open_faces
from arcinvert.training.data.streaming import stream_faces

__all__ = ["FaceDataset", "convert_images", "list_images", "open_faces", "read_clean_list", "stream_faces"]
