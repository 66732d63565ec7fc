"""Fused."""
