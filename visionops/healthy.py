"""`python -m visionops.healthy URL`: exit code 0 where a page answers; for a container's health check."""

import sys
import urllib.request


def main() -> None:
    """Ask the page; an answer other than 2xx, or none within 5 s, raises."""
    urllib.request.urlopen(sys.argv[1], timeout=5).close()


if __name__ == "__main__":
    main()
