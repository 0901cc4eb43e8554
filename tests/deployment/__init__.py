"""Tests of the room deployment."""
