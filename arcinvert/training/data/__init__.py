"""Training pictures: folders, RecordIO, shards, clean lists, augmentation."""
