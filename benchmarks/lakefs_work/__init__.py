"""Work for a server of the lakeFS API, whichever it is, and a bare client to ask for it."""
