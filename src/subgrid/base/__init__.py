"""Ground floor: errors, files and logging that every room shares; knows nothing of climate."""
