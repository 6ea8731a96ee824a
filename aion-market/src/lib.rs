//! Proper scores, market makers, calibration and predictors.
