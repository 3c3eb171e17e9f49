"""What protoc generates from proto/tidings/v1; written by generate.py."""
