"""What starts work: new commits, batches in the drop, the spool of production; and who is told how runs ended."""
