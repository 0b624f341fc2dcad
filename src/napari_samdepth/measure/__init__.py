"""What is measured of labels: regions, readout against depth, order, calibration; imports `core` alone."""
