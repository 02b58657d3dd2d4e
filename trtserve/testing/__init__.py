"""Fakes that tests drive instead of mocks: shipped, public and tested themselves."""
