"""Carry out what ``control`` decides: ``local`` as processes of one machine."""
