// Code in colour and formulas set: each library is fetched when the first pair that needs it is shown, and works after
// the pair has been painted. Formulas become MathML, which needs no fonts and no inline styles.
import { root } from "./dom.js";

const loading = {};
function library(name) {
  loading[name] ||= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = root.dataset[name];
    script.onload = () => resolve();
    script.onerror = () => {
      delete loading[name];
      reject(new Error(`${name} could not be loaded`));
    };
    document.head.append(script);
  });
  return loading[name];
}

const LONGEST_CODE = 50_000;
async function colourCode(blocks) {
  await library("highlight");
  for (const code of blocks) {
    const language = code.className.match(/language-(\S+)/)?.[1];
    if (!window.hljs.getLanguage(language) || code.textContent.length > LONGEST_CODE) continue;
    code.innerHTML = window.hljs.highlight(code.textContent, { language, ignoreIllegals: true }).value;
    code.classList.add("hljs");
  }
}

const DELIMITERS = /^(?:\$\$|\\\[|\\\(|\$)([\s\S]*?)(?:\$\$|\\\]|\\\)|\$)$/;
async function setFormulas(formulas) {
  await library("katex");
  for (const formula of formulas) {
    const source = formula.textContent;
    const displayMode = formula.matches(".math-display");
    const tex = source.trim().match(DELIMITERS)?.[1];
    if (tex === undefined) continue;
    try {
      // A formula from a model may be long or malicious: no macros that define, no links, bounded sizes.
      const options = { output: "mathml", displayMode, trust: false, maxSize: 20, maxExpand: 200, strict: "ignore" };
      formula.innerHTML = window.katex.renderToString(tex, options);
      formula.title = source;
    } catch {
      formula.classList.add("math-broken");
    }
  }
}

export function enrich(element) {
  const blocks = [...element.querySelectorAll("pre > code[class*=language-]:not(.hljs)")];
  const formulas = [...element.querySelectorAll(".math-inline, .math-display")].filter((each) => !each.firstElementChild);
  // What could not be fetched stays readable as it is.
  if (blocks.length) colourCode(blocks).catch(() => null);
  if (formulas.length) setFormulas(formulas).catch(() => null);
}
