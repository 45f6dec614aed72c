"""What a scale-out would bring: preview, snapshot, prices."""
