"""Offline HTML: displays for notebooks, and one-file reports that load nothing from anywhere."""

from workbench.html.display import Display, figure, findings, number, protocol_card, table, together
from workbench.html.export import ExportError, anchor, export, loaded_resources, render
from workbench.html.pictures import Thumbnail, thumbnails

__all__ = [
    "Display",
    "ExportError",
    "Thumbnail",
    "anchor",
    "export",
    "figure",
    "findings",
    "loaded_resources",
    "number",
    "protocol_card",
    "render",
    "table",
    "thumbnails",
    "together",
]
