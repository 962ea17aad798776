"""pytest plugins of this repository's tests; what driver authors need is in `slipform.testing`."""
