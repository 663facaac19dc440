//! Curves over the number of devices, as an SVG of panels side by side.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::table::Table;

/// Medians of one row of a table, by number of devices.
#[derive(Debug)]
pub(crate) struct Curve {
    name: String,
    points: Vec<(f64, f64)>,
}

/// One picture among others: both axes are logarithmic.
#[derive(Debug)]
pub(crate) struct Panel {
    pub(crate) title: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) curves: Vec<Curve>,
}

/// A curve for each row, its medians times `scale`.
pub(crate) fn curves(table: &Table, scale: f64) -> Vec<Curve> {
    let mut curves: Vec<Curve> = Vec::new();
    for (name, size, median) in table.medians() {
        let point = (f64::from(size.devices()), median * scale);
        match curves.iter_mut().find(|curve| curve.name == name) {
            Some(curve) => curve.points.push(point),
            None => curves.push(Curve { name: name.to_owned(), points: vec![point] }),
        }
    }
    curves
}

const PANEL: (u32, u32) = (400, 380);

/// Writes the panels into a file.
pub(crate) fn draw(to: &Path, panels: &[Panel]) -> Result<()> {
    let picture = (PANEL.0 * panels.len() as u32, PANEL.1);
    let whole = SVGBackend::new(to, picture).into_drawing_area();
    whole.fill(&WHITE).map_err(undrawn)?;
    // One scale across, so that panels can be compared.
    let across = span(panels.iter().flat_map(Panel::points).map(|point| point.0));
    for (area, panel) in whole.split_evenly((1, panels.len())).iter().zip(panels) {
        panel.draw(area, across)?;
    }
    whole.present().map_err(undrawn)
}

impl Panel {
    fn points(&self) -> impl Iterator<Item = &(f64, f64)> {
        self.curves.iter().flat_map(|curve| &curve.points)
    }

    fn draw(&self, area: &DrawingArea<SVGBackend<'_>, Shift>, across: (f64, f64)) -> Result<()> {
        let up = decades(span(self.points().map(|point| point.1)));
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, ("sans-serif", 15))
            .margin(10)
            .x_label_area_size(36)
            .y_label_area_size(48)
            .build_cartesian_2d((across.0..across.1).log_scale(), (up.0..up.1).log_scale())
            .map_err(undrawn)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_labels(5)
            .y_labels(5)
            .x_desc("devices")
            .y_desc(self.unit)
            .x_label_formatter(&|devices| short(*devices))
            .y_label_formatter(&|figure| short(*figure))
            .draw()
            .map_err(undrawn)?;
        for curve in &self.curves {
            let style = colour(&curve.name).stroke_width(2);
            let line = LineSeries::new(curve.points.iter().copied(), style).point_size(2);
            chart
                .draw_series(line)
                .map_err(undrawn)?
                .label(curve.name.as_str())
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
        }
        let mut names = chart.configure_series_labels();
        names.position(SeriesLabelPosition::UpperLeft).background_style(WHITE.mix(0.8));
        names.draw().map_err(undrawn)
    }
}

/// One for each name, in every panel the same, and told apart by all eyes (Okabe and Ito's).
fn colour(name: &str) -> RGBColor {
    match name {
        "Bulkhead" => RGBColor(0xd5, 0x5e, 0x00),
        "Bulkhead, forwarding: xdp" => RGBColor(0xe6, 0x9f, 0x00),
        "nft netdev set" => RGBColor(0x00, 0x72, 0xb2),
        "nft conntrack + set" => RGBColor(0x56, 0xb4, 0xe9),
        "iptables raw + ipset" => RGBColor(0x00, 0x9e, 0x73),
        "xdp-filter" => RGBColor(0xcc, 0x79, 0xa7),
        _ => RGBColor(0x80, 0x80, 0x80),
    }
}

/// From power of ten to power of ten; the room above the highest curve is for their names.
fn decades((low, high): (f64, f64)) -> (f64, f64) {
    (10f64.powf(low.log10().floor()), 10f64.powf((high * 3.0).log10().ceil()))
}

fn span(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, 0.0), |(low, high), value| (value.min(low), value.max(high)))
}

/// `1k`, `4M`; what is below a thousand as it is.
fn short(figure: f64) -> String {
    match figure {
        1e6.. => format!("{:.0}M", figure / 1e6),
        1e3.. => format!("{:.0}k", figure / 1e3),
        1.0.. => format!("{figure:.0}"),
        _ => format!("{figure}"),
    }
}

fn undrawn(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("draw the chart: {error}")
}
