"""The disk: one writer, any number of readers, no row lost or doubled."""
