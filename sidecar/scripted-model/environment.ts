// With these variables every harness asks the scripted model, and needs no key.

/** @param url of the model, without a path */
export const scriptedEnvironment = (url: string): Record<string, string> => ({
  ANTHROPIC_API_KEY: 'scripted-key-anthropic',
  ANTHROPIC_BASE_URL: url,
  OPENAI_API_KEY: 'scripted-key-openai',
  OPENAI_BASE_URL: `${url}/v1`,
  GEMINI_API_KEY: 'scripted-key-gemini',
  GOOGLE_GEMINI_BASE_URL: url,
  KIMI_API_KEY: 'scripted-key-kimi',
  KIMI_BASE_URL: `${url}/v1`,
})
