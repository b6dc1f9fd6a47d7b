/**
 * Recognises the tools that a provider runs itself: searches, code, files. Their calls cost money and bring in tokens that
 * the request does not show, so a budget can't bound them. Pure.
 */

/** OpenAI's and Anthropic's have a `type`, with a version behind it; those of the client's own (`function`) do not match. */
const TYPE =
  /^(?:web_search|web_fetch|file_search|code_interpreter|code_execution|image_generation|mcp|tool_search)(?:_preview|_tool)?(?:_\d[\w-]*)?$/;

/** Gemini's are keys of a tool, in either spelling. */
const KEYS: ReadonlySet<string> = new Set([
  'googlesearch',
  'googlesearchretrieval',
  'googlemaps',
  'urlcontext',
  'codeexecution',
  'enterprisewebsearch',
  'filesearch',
]);

/** @param type the `type` of an object in a list of the request */
export function isProviderToolType(type: string): boolean {
  return TYPE.test(type);
}

/** @param key a key of an object in a list of the request */
export function isProviderToolKey(key: string): boolean {
  return key.length < 32 && KEYS.has(key.replaceAll('_', '').toLowerCase());
}
