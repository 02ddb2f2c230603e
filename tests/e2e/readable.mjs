// What a person with weak eyes or broad fingers needs of a page: WCAG 2.2, 1.4.3 (contrast) and 2.5.8 (target size), level AA.

const CONTRAST_MIN = 4.5;
const TARGET_PX_MIN = 24;

/** What is too pale to be read or too small to be hit, in words; an empty list if nothing is. */
export async function hardships(page) {
  return await page.evaluate(findHardships, { contrastMin: CONTRAST_MIN, targetMin: TARGET_PX_MIN });
}

/** Runs in the page. */
function findHardships({ contrastMin, targetMin }) {
  const colour = (text) => {
    const [red, green, blue, alpha = 1] = text.match(/[\d.]+/g).map(Number);
    return { channels: [red, green, blue], alpha };
  };
  const over = (top, ground) => ({
    channels: top.channels.map((value, at) => value * top.alpha + ground.channels[at] * (1 - top.alpha)),
    alpha: 1,
  });
  const luminance = ({ channels }) => {
    const [red, green, blue] = channels.map((value) => {
      const part = value / 255;
      return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const ground = (element) => {
    const own = colour(getComputedStyle(element).backgroundColor);
    if (own.alpha === 1) return own;
    return over(
      own,
      element.parentElement === null ? colour("rgb(255 255 255)") : ground(element.parentElement),
    );
  };
  const contrast = (element, style) => {
    const below = ground(element);
    const ink = colour(style.color);
    const drawn = over({ ...ink, alpha: ink.alpha * Number(style.opacity) }, below);
    const [light, dark] = [luminance(drawn), luminance(below)].sort((a, b) => b - a);
    return (light + 0.05) / (dark + 0.05);
  };
  const name = (element) => `${element.tagName.toLowerCase()}.${element.className}`;
  const found = new Set();
  const look = (element, style, text) => {
    const ratio = contrast(element, style);
    if (ratio < contrastMin) found.add(`${name(element)} “${text}”: contrast ${ratio.toFixed(2)}`);
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    const text = texts.currentNode.data.trim();
    // What cannot be pressed may be pale.
    if (text === "" || !element.checkVisibility() || element.closest(":disabled") !== null) continue;
    look(element, getComputedStyle(element), text.slice(0, 30));
  }
  for (const field of document.querySelectorAll(":placeholder-shown")) {
    look(field, getComputedStyle(field, "::placeholder"), field.placeholder);
  }
  for (const target of document.querySelectorAll("a, button, input, textarea")) {
    if (!target.checkVisibility()) continue;
    const { width, height } = target.getBoundingClientRect();
    if (Math.min(width, height) < targetMin - 0.5) {
      found.add(
        `${name(target)} “${target.textContent.slice(0, 30)}”: ${width.toFixed()} × ${height.toFixed()} px`,
      );
    }
  }
  return [...found];
}
