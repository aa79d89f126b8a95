// node page_dom.js PAGE STATE: runs the script of the dashboard's page on a state, on a few lines of DOM, and tells as
// JSON what it showed: text by id, how many shapes of each kind, and attributes that are no number where one belongs.
"use strict";
const fs = require("fs");
const [page, state] = process.argv.slice(2).map(file => fs.readFileSync(file, "utf8"));

class Node {}
class Element extends Node {
  constructor(name) { super(); this.name = name; this.attributes = {}; this.children = []; }
  setAttribute(key, value) { this.attributes[key] = String(value); }
  append(...children) { this.children.push(...children); }
  replaceChildren(...children) { this.children = children; }
  set textContent(text) { this.children = [text]; }
  text() { return this.children.map(child => child instanceof Node ? child.text() : String(child)).join(" "); }
  all() { return [this, ...this.children.filter(child => child instanceof Node).flatMap(child => child.all())]; }
}
const ids = Object.fromEntries([...page.matchAll(/ id="(\w+)"/g)].map(([, id]) => [id, new Element("div")]));
global.Node = Node;
global.document = {
  createElement: name => new Element(name),
  createElementNS: (space, name) => new Element(name),
  getElementById: id => ids[id],
  querySelector: () => null,
};
global.fetch = async () => ({ ok: true, json: async () => JSON.parse(state) });
global.setTimeout = () => {};
new Function(page.match(/<script>([\s\S]*?)<\/script>/)[1])();
setImmediate(() => {
  const text = Object.fromEntries(Object.entries(ids).map(([id, element]) => [id, element.text()])), shapes = {}, wrong = [];
  for (const { name, attributes } of Object.values(ids).flatMap(element => element.all())) {
    shapes[name] = (shapes[name] || 0) + 1;
    wrong.push(...Object.values(attributes).filter(value => /NaN|undefined|null|Infinity/.test(value)));
  }
  console.log(JSON.stringify({ text, shapes, wrong }));
});
