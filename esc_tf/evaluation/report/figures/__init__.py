"""The figures of a report, each a piece of SVG or PNG that lies inside the page."""
