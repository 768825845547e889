// The few DOM moves that every panel needs.

/** The element with this id. */
export const byId = (id) => document.getElementById(id);

/** Sets text only when it differs, so that nothing is laid out for nothing. */
export function setText(element, text) {
  if (element.firstChild?.nodeType === 3 && element.childNodes.length === 1) {
    if (element.firstChild.data !== text) element.firstChild.data = text;
  } else {
    element.textContent = text;
  }
}

/** Sets a data attribute only when it differs. */
export function setData(element, name, value) {
  if (element.dataset[name] !== value) element.dataset[name] = value;
}

/** A new element: make("span", {className: "x"}, "text", child...). */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}
