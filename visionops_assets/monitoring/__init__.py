"""What production says after a promotion: logs, drift, performance, labels wanted."""
