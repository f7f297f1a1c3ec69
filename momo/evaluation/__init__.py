"""Evaluation protocols as plain functions on features or models; choices use validation parts."""
