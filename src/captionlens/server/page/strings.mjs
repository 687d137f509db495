// Every text of the page in its two languages. Captions and the service's messages stay as they come. English that stands
// in the markup is taken from there.

import { english as ofWords, percent } from "./sentence.mjs";

const english = {
  ...ofWords,
  title: "captionlens",
  about: "A sentence for a photograph, and for every word the place where the network looked.",
  drop: "Drop photographs here",
  dropMore: "Drop them anywhere on this page, paste them, or:",
  choose: "Choose photographs",
  camera: "Use the camera",
  example: "Try an example",
  ready: "Ready.",
  busy: ({ left }) => `Looking at ${left} more …`,
  captions: "Captions",
  waiting: "Waiting …",
  looking: "Looking …",
  sure: ({ share }) => `${percent(share)} sure`,
  unsure: ({ share }) =>
    `not sure: this captioner may not know this kind of photograph (${percent(share)} sure)`,
  wordless: "The caption has no words.",
  seen: "depended on the picture",
  checking: "Checking which words depend on the picture …",
  checked: ({ unseen, all }) =>
    unseen ? `${unseen} of ${all} words did not depend on the picture.` : "Every word depended on the picture.",
  instead: ({ word }) => `Instead of “${word}”`,
  noOthers: "The network thought of no other word.",
  chance: ({ share }) => (share < 0.005 ? "<1%" : percent(share)),
  ask: "Ask about a part",
  leave: "Leave the box",
  boxHelp:
    "Drag a box on the photograph, or tap where it shall lie. With keys: arrows move it, Shift and arrows resize it, " +
    "Enter asks, Escape leaves.",
  box: ({ left, top, width, height }) =>
    `Box: ${percent(left)} from the left, ${percent(top)} from the top, ` +
    `${percent(width)} wide, ${percent(height)} high`,
  askBox: "Ask about this box",
  smaller: "Smaller",
  larger: "Larger",
  onlyBox: "Looking only in the box.",
  whole: "Whole picture",
  back: "Back",
  another: "Another",
  copy: "Copy alt text",
  copied: "Copied.",
  copyByHand: "Alt text, to copy by hand",
  figure: "Download figure",
  figureLong: "A figure of where each word looked",
  json: "Download JSON",
  jsonLong: "The answer of the service, with the maps",
  preparing: "Drawing the figure …",
  retry: "Try again",
  remove: "Remove",
  removeLong: ({ name }) => `Remove ${name}`,
  announced: ({ name, caption }) => `${name}, caption: ${caption}`,
  unshown: "This browser cannot show this kind of photograph.",
  unreachable: "the service cannot be reached",
  unreadable: "this file cannot be read",
  odd: ({ status }) => `the service answered with status ${status}`,
  tooLarge: ({ most }) => `larger than the ${most} MiB that the service takes`,
  noExample: "There is no example here.",
  settings: "Settings",
  beam: "Beam",
  beamHelp: "How many sentences are followed at a time; more search longer.",
  random: "Draw words at random",
  temperature: "Temperature",
  temperatureHelp: "Higher draws unlikely words more often.",
  seed: "Seed",
  seedHelp: "The same seed draws the same words. “Another” under a caption draws with the next one.",
  check: "Check which words depend on the picture",
  language: "Language of this page",
  again: "Caption again",
  takeAPicture: "Take a photograph",
  take: "Take",
  close: "Close",
  noCamera: "This page may not use a camera, or there is none. You can still take a photograph with your device:",
  device: "Photograph with the device",
  cameraStarts: "Waiting for the camera …",
  token: "Access token",
  tokenHelp: "This service wants an access token. It is kept until this tab is closed.",
  tokenRefused: "The service does not know this token.",
  enter: "Enter",
  model: ({ name, version }) => `Captioner: ${[name, version].filter(Boolean).join(" ")}.`,
  privacy: "Photographs go to this server only, and nothing is stored there.",
  docs: "How to call the service",
};

const places = {
  "all over": "各处", centre: "中央",
  "upper left": "左上", "upper middle": "上方中间", "upper right": "右上",
  "left middle": "左侧中间", "right middle": "右侧中间",
  "lower left": "左下", "lower middle": "下方中间", "lower right": "右下",
};

const chinese = {
  title: "captionlens",
  about: "为照片写一句描述，并指出网络写每个词时看了哪里。",
  point: "指向或轻点一个词，也可以用方向键逐词移动。",
  little: "看得少",
  most: "看得最多",
  thick: "词下的线越粗，网络越有把握。",
  dotted: "灰色点线",
  unseen: "不取决于图片",
  drop: "把照片拖到这里",
  dropMore: "可以拖到页面任意位置，也可以粘贴，或者：",
  choose: "选择照片",
  camera: "使用相机",
  example: "试用示例",
  ready: "就绪。",
  busy: ({ left }) => `还有 ${left} 张正在处理……`,
  captions: "描述",
  waiting: "等待中……",
  looking: "正在查看……",
  words: "描述中的词",
  play: "播放",
  stop: "停止",
  sure: ({ share }) => `把握 ${percent(share)}`,
  unsure: ({ share }) => `没有把握：这个模型可能不熟悉这类照片（把握 ${percent(share)}）`,
  wordless: "描述是空的。",
  told: ({ word, share, where }) =>
    `${word} · 把握 ${percent(share)} · ${where === "all over" ? "看了各处" : `主要看${places[where]}`}`,
  examined: ({ probability, blanked, control }) =>
    `概率 ${percent(probability)}，遮住所看之处后 ${percent(blanked)}，遮住别处同样大小后 ${percent(control)}`,
  seen: "取决于图片",
  checking: "正在检查哪些词取决于图片……",
  checked: ({ unseen, all }) => (unseen ? `${all} 个词中有 ${unseen} 个不取决于图片。` : "每个词都取决于图片。"),
  instead: ({ word }) => `替换“${word}”`,
  noOthers: "网络没有想到别的词。",
  chance: ({ share }) => (share < 0.005 ? "<1%" : percent(share)),
  ask: "询问局部",
  leave: "取消选框",
  boxHelp: "在照片上拖出一个框，或轻点框的位置。键盘：方向键移动，Shift 加方向键改变大小，Enter 询问，Esc 取消。",
  box: ({ left, top, width, height }) =>
    `选框：距左 ${percent(left)}，距上 ${percent(top)}，宽 ${percent(width)}，高 ${percent(height)}`,
  askBox: "询问这个框",
  smaller: "缩小",
  larger: "放大",
  onlyBox: "只看框内。",
  whole: "整张照片",
  back: "返回",
  another: "再来一句",
  copy: "复制替代文本",
  copied: "已复制。",
  copyByHand: "替代文本，请手动复制",
  figure: "下载图示",
  figureLong: "每个词看了哪里的图示",
  json: "下载 JSON",
  jsonLong: "服务的答复，含注意力图",
  preparing: "正在绘制图示……",
  retry: "重试",
  remove: "移除",
  removeLong: ({ name }) => `移除 ${name}`,
  announced: ({ name, caption }) => `${name}，描述：${caption}`,
  unshown: "此浏览器无法显示这种照片。",
  unreachable: "无法连接服务",
  unreadable: "无法读取此文件",
  odd: ({ status }) => `服务答复状态 ${status}`,
  tooLarge: ({ most }) => `超过服务允许的 ${most} MiB`,
  noExample: "这里没有示例。",
  settings: "设置",
  beam: "集束宽度",
  beamHelp: "同时跟踪多少个句子；越多搜索越久。",
  random: "随机选词",
  temperature: "温度",
  temperatureHelp: "越高，越常选到少见的词。",
  seed: "随机种子",
  seedHelp: "相同的种子选出相同的词。描述下的“再来一句”使用下一个种子。",
  check: "检查哪些词取决于图片",
  language: "页面语言",
  again: "重新描述",
  takeAPicture: "拍照",
  take: "拍摄",
  close: "关闭",
  noCamera: "此页面不能使用相机，或者没有相机。您仍可用设备拍照：",
  device: "用设备拍照",
  cameraStarts: "等待相机……",
  token: "访问令牌",
  tokenHelp: "此服务需要访问令牌。令牌保留到此标签页关闭为止。",
  tokenRefused: "服务不认识这个令牌。",
  enter: "提交",
  model: ({ name, version }) => `模型：${[name, version].filter(Boolean).join(" ")}。`,
  privacy: "照片只发送到这台服务器，服务器不保存任何内容。",
  docs: "如何调用此服务",
};

const LANGUAGES = { en: english, zh: chinese };
const TAGS = { en: "en", zh: "zh-Hans" };
let language = "en";

export const text = (key, values = {}) => {
  const found = LANGUAGES[language][key];
  return typeof found === "function" ? found(values) : found;
};

// What stands where: an element's attributes (or its text) and how each is made, to be made anew in another language.
const said = new WeakMap();

// Puts a text into an element: `make` is a key or a function that makes the text out of a language; "" takes it out.
export function say(element, make, attribute = "textContent") {
  const all = said.get(element) ?? new Map();
  said.set(element, all.set(attribute, make));
  element.dataset.said = "";
  put(element, attribute, make);
  return element;
}

function put(element, attribute, make) {
  const made = typeof make === "function" ? make(LANGUAGES[language]) : make && text(make);
  if (attribute !== "textContent") {
    if (element.getAttribute(attribute) !== made) element.setAttribute(attribute, made);
  } else if (element.textContent !== made) element.textContent = made; // live regions shall not speak twice
}

// Fills in what the markup names by key, in the language that is set.
export function fill(root) {
  for (const element of root.querySelectorAll("[data-text]")) {
    english[element.dataset.text] ??= element.textContent;
    say(element, element.dataset.text);
  }
  for (const element of root.querySelectorAll("[data-label]")) say(element, element.dataset.label, "aria-label");
}

export function speak(wanted) {
  language = wanted in LANGUAGES ? wanted : "en";
  document.documentElement.lang = TAGS[language];
  document.title = text("title");
  for (const element of document.querySelectorAll("[data-said]"))
    for (const [attribute, make] of said.get(element) ?? []) put(element, attribute, make);
}

export const preferred = () => (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en");
