"""Attempts in processes of their own: a cell may loop, eat, crash or fork, and takes nobody along."""
