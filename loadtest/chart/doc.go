// Package chart draws plots as SVG: scales, panels with axes, lines, areas, bars and dots, each with
// its label beside it. It knows nothing of what is plotted.
//
// A [Plot] is a list of shapes; [Templates] prints it with html/template, inside a page or as a file
// of its own. Colours are classes of the style sheet, so a plot follows the reader's dark or light
// theme. Every plot carries a title and a description for those who don't see it.
package chart
