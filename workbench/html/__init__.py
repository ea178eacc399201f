"""Offline HTML: displays for notebooks, and one-file reports that load nothing from anywhere."""

from workbench.html.display import Display, figure, findings, number, protocol_card, table, together
from workbench.html.export import ExportError, export, loaded_resources
from workbench.html.pictures import Thumbnail, thumbnails

__all__ = [
    "Display",
    "ExportError",
    "Thumbnail",
    "export",
    "figure",
    "findings",
    "loaded_resources",
    "number",
    "protocol_card",
    "table",
    "thumbnails",
    "together",
]
