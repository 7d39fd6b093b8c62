// The reader's API key: kept for this tab only, and sent as the API's own header.
const PLACE = "podium-api-key";

export const currentKey = () => sessionStorage.getItem(PLACE);

export function useKey(key) {
  if (key) sessionStorage.setItem(PLACE, key);
  else sessionStorage.removeItem(PLACE);
}
