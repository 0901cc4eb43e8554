"""Floor 5: models that supply columns and can be driven by an emulator."""
