// What a scope lets an application do, in words.
const WORDS = {
  openid: "Know that it is you",
  profile: "See your name, language and time zone",
  email: "See your e-mail address",
  offline_access: "Stay signed in until you take it back",
  account: "Act on your account as you can",
};

export function scopeText(scope) {
  const item = document.createElement("li");
  item.textContent = WORDS[scope] ?? scope;
  return item;
}
