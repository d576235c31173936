"""Training images: folders, RecordIO, shards, clean lists, augmentation."""
