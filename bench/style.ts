/** The style of all plots, which follows the reader's light or dark theme. */

/** The colours and fonts of a plot. */
export const STYLE = `
  text { font: 12px system-ui, sans-serif; fill: #24292f }
  .title { font-weight: 600 } .faint { fill: #6e7781 } .label { text-anchor: end } .tick { text-anchor: middle }
  line { stroke: #d0d7de } circle, .stem { fill: #8c959f; stroke: #8c959f } .own { fill: #0969da; stroke: #0969da }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .faint { fill: #8d96a0 } line { stroke: #30363d }
    circle, .stem { fill: #7d8590; stroke: #7d8590 } .own { fill: #4493f8; stroke: #4493f8 }
  }`;
