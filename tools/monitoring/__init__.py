"""Dashboards and alerts as data. `make dashboards` makes the chart's files of them."""
