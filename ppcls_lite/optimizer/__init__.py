"""Optimizers, parameter groups, schedules and the moving average."""
