"""Which version is champion on which device group, since when and why, as the registered model says."""
