"""Evaluation: caption scores without Java, confidence intervals, grounding, faithfulness and calibration."""
