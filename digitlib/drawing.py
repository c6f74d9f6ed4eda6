"""A sheet to write on with the mouse, in Jupyter and Colab; read each time the pen is lifted."""

import io
import sys

import ipywidgets as widgets
import numpy as np
from ipycanvas import Canvas
from PIL import Image, ImageDraw

from digitlib.errors import ImageError
from digitlib.reading import describe

SIDE = 280  # pixels of the sheet
PEN = 16  # pixels


class Pad(widgets.HBox):
    """Sheet, what was read, and a button for a clean sheet.

    Strokes are kept in Python: from the browser nothing has to come but the places of the mouse.

    Parameters
    ----------
    reader : digitlib.reading.Reader
    draw : callable or None
        Takes a list of :class:`digitlib.reading.Reading`, returns a Figure to be shown beside the
        sheet.
    """

    def __init__(self, reader, draw=None):
        if "google.colab" in sys.modules:  # which shows no widgets but its own unless asked
            from google.colab import output

            output.enable_custom_widget_manager()
        self.reader, self.draw = reader, draw
        self.strokes, self._down = [], False
        border = {"border": "2px solid #666", "width": f"{SIDE + 4}px"}
        self.canvas = Canvas(width=SIDE, height=SIDE, layout=border)
        self.canvas.line_width, self.canvas.line_cap = PEN, "round"
        self.canvas.on_mouse_down(self._begin)
        self.canvas.on_mouse_move(self._move)
        self.canvas.on_mouse_up(self._end)
        self.canvas.on_mouse_out(self._end)
        self.said = widgets.HTML("<p>Write a digit, or a few side by side, with the mouse.</p>")
        self.figure = widgets.Image(format="png", layout={"display": "none", "max_width": "420px"})
        self.button = widgets.Button(description="Clean sheet")
        self.button.on_click(lambda _: self.clear())
        left = {"width": f"{SIDE + 30}px", "flex": "0 0 auto"}
        sheet = widgets.VBox([self.canvas, self.button], layout=left)
        super().__init__([sheet, widgets.VBox([self.said, self.figure])])

    def picture(self):
        """What was written: uint8 (SIDE, SIDE), 255 is paper."""
        sheet = Image.new("L", (SIDE, SIDE), 255)
        pen = ImageDraw.Draw(sheet)
        for stroke in self.strokes:
            pen.line(stroke, 0, PEN, joint="curve")
            for x, y in stroke:
                pen.circle((x, y), PEN / 2, 0)
        return np.asarray(sheet)

    def clear(self):
        """A clean sheet."""
        self.strokes.clear()
        self.canvas.clear()
        self.said.value, self.figure.layout.display = "<p>Write a digit with the mouse.</p>", "none"

    def _begin(self, x, y):
        self._down = True
        self.strokes.append([])
        self._move(x, y)

    def _move(self, x, y):
        if self._down:
            stroke = self.strokes[-1]
            stroke.append((x, y))
            self.canvas.stroke_line(*stroke[max(0, len(stroke) - 2)], x, y)

    def _end(self, x, y):
        if self._down:
            self._down = False
            self._read()

    def _read(self):
        try:
            readings = self.reader.read(self.picture())
        except ImageError as error:
            self.said.value = f"<p>{error}</p>"
            return
        text = "<br>".join(describe("I read", readings))
        self.said.value = f"<p style='font-size:120%'>{text}</p>"
        if self.draw is not None:
            buffer = io.BytesIO()
            self.draw(readings).savefig(buffer, format="png", dpi=100)
            self.figure.value, self.figure.layout.display = buffer.getvalue(), ""
