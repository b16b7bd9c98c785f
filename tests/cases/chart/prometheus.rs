//! What the chart asks of Prometheus, put to a real one.
