"""What the black-box suites share: servers, a reference data set, a raw protocol client and runners for other clients."""
